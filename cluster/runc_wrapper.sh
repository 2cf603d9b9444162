#!/bin/sh
# Wraps runc on machines without CAP_SYS_RESOURCE. A privileged container requests all capabilities, and runc refuses to
# grant one that it does not have. Remove that capability from the request.
previous=
for argument in "$@"; do
    [ "$previous" = --bundle ] && sed -i 's/"CAP_SYS_RESOURCE",//g' "$argument/config.json"
    previous=$argument
done
exec runc "$@"
