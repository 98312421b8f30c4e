#!/bin/sh
# Unpack the Debian packages that tests use into build/debian: nothing is installed, started or changed on the machine.
# Where that cannot be done (another system, no network) it says so and succeeds: the tests that need a program say what
# they lack and are counted as skipped.
set -eu
cd "$(dirname "$0")/.."
folder=$PWD/build/debian
stamp=$folder/.unpacked
packages="prometheus"

[ "$(cat "$stamp" 2>/dev/null)" != "$packages" ] || exit 0
for program in apt-get dpkg-deb; do
    command -v "$program" >/dev/null 2>&1 || {
        echo "no $program here: the tests that need $packages are skipped" >&2
        exit 0
    }
done

# Lists and cache of our own, so that nobody needs to be root; apt still checks every signature.
mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
apt() {
    apt-get -qq -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder/cache" -o APT::Sandbox::User= \
        -o Acquire::Retries=0 -o Acquire::http::Timeout=20 -o Acquire::Languages=none "$@"
}
echo "unpacking $packages into build/debian" >&2
if (cd "$folder" && apt update && apt download $packages) >&2; then
    for package in "$folder"/*.deb; do
        dpkg-deb --extract "$package" "$folder"
    done
    printf '%s\n' "$packages" >"$stamp"
else
    echo "$packages could not be fetched: the tests that need them are skipped" >&2
fi
rm -rf "$folder/lists" "$folder/cache" "$folder"/*.deb
