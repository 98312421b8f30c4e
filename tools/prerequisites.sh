#!/bin/sh
# Name every missing prerequisite in one line with what to do about it; say nothing and succeed when all are there.
# Everything else (PostgreSQL, Temporal, Python packages) is installed into the checkout by make.
python=${1:-python3}
missing=0

lacks() {
    echo "missing: $1" >&2
    missing=1
}

command -v git >/dev/null 2>&1 || lacks "git. Install the package git; agents read repositories with it."
command -v make >/dev/null 2>&1 || lacks "make. Install the package make; every task of the workshop is a target of it."

if ! "$python" -c "" >/dev/null 2>&1; then
    lacks "Python 3.11 or newer ($python does not run). Install it, or name another: make PYTHON=/path/to/python3.11"
elif ! "$python" -c "import sys; sys.exit(sys.version_info < (3, 11))"; then
    lacks "Python 3.11 or newer ($python is $("$python" -V 2>&1)). Install it, or name another: make PYTHON=/path/to/python3.11"
elif ! "$python" -c "import ensurepip, venv" >/dev/null 2>&1; then
    lacks "the modules venv and ensurepip of $python. Install the package python3-venv."
fi

# The wheels of PostgreSQL are built against this C library; an older or another one fails only later, and obscurely.
if [ "$(uname -s)" = Linux ]; then
    libc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)
    major=${libc%%.*}
    minor=${libc#*.}
    minor=${minor%%.*}
    if [ -z "$libc" ]; then
        lacks "glibc 2.36 or newer (this system has another C library). Use Debian 12, Ubuntu 24.04, Fedora 37 or newer."
    elif [ "$major" -lt 2 ] || { [ "$major" -eq 2 ] && [ "$minor" -lt 36 ]; }; then
        lacks "glibc 2.36 or newer (this is $libc). Use Debian 12, Ubuntu 24.04, Fedora 37 or newer."
    fi
fi

exit $missing
