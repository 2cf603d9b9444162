"""One attempt of a task, from its parameters to XCom."""
