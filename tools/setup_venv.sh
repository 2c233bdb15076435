#!/usr/bin/env bash
# Make a virtual environment with this package, editable, and one of its extras.
# Usage: tools/setup_venv.sh PYTHON FOLDER EXTRA
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1 folder=$2 extra=$3

fail() {
    echo "*** $*" >&2
    exit 1
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$python is not a Python 3.10 or newer; name one with 'make PYTHON=...'."

# Debian and Ubuntu keep ensurepip, without which there is no pip in the environment, apart.
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "Virtual environments need ensurepip: run 'sudo apt-get install $package'."
    fi
    apt-get -q update
    DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$package"
fi

# One that was left half made has no working pip.
if ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "Making $folder with $("$python" --version)"
    "$python" -m venv --clear "$folder"
fi

echo "Installing this package with its extra '$extra' into $folder"
"$folder/bin/python" -m pip --disable-pip-version-check install --quiet --editable ".[$extra]"
