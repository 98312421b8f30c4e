#!/bin/sh
# Install what the locks name into .venv, and the project itself as an editable package. Run by make when a lock, the
# project file or the place of the checkout changed; running it again is quick and changes nothing.
set -eu
cd "$(dirname "$0")/.."
python=${1:-python3}
stamp=.venv/.installed

sh tools/prerequisites.sh "$python"

# An environment knows its place by absolute path, so one that was copied here along with its checkout would quietly
# run the code of the other checkout.
if [ -e "$stamp" ] && [ "$(cat "$stamp")" != "$PWD" ]; then
    rm -rf .venv
fi
if ! .venv/bin/python -c "import pip" >/dev/null 2>&1; then
    echo "making .venv with $("$python" -V)" >&2
    "$python" -m venv --clear .venv
fi

echo "installing what is missing from requirements.txt" >&2
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tools/uv.txt
uv() { .venv/bin/uv --quiet "$@" --python .venv/bin/python; }
# Compiled once here, not at each start of each process where Python may not write beside what it reads.
uv pip install --compile-bytecode --require-hashes -r requirements.txt
uv pip install --no-deps --no-build-isolation --editable . # builds with the hatchling of the lock: no network

printf '%s\n' "$PWD" >"$stamp"
