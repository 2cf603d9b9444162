from burla_provider.worker.aggregates import Aggregate


def test_an_average_travels_as_sum_and_count():
    average = Aggregate("x", "avg", "a", "b > 0", argument_type="integer")
    assert [part.as_string() for part in average.partials()] == [
        "sum(a\n) FILTER (WHERE b > 0\n)",
        "count(a\n) FILTER (WHERE b > 0\n)",
    ]


def test_values_that_are_not_numbers_travel_as_text():
    (largest,) = Aggregate("x", "max", "a", argument_type="text").partials()
    assert largest.as_string() == "(max(a\n))::text"
