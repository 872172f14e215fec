#!/bin/sh
# Install requirements into the virtual environment of a folder, made where it is not there:
#   requirements/install.sh ENVIRONMENT ARGUMENT...
# ARGUMENTs are those of `pip install`. Serving's environment is made by uv where that is there. PYTHON names another
# interpreter. What goes wrong is told in one line; what pip or uv said of it lies in .cache/install-ENVIRONMENT.log.
set -eu
environment=$1
shift
python=${PYTHON:-python3}
log=.cache/install$(printf %s "/$environment" | tr / -).log
mkdir -p .cache

fail() {
    echo "$1" >&2
    exit 2
}

explain() {
    case $(cat "$log") in
    *"No space left"*)
        fail "no room on the disk for $environment: make some, or remove $environment and .cache" ;;
    *"DO NOT MATCH THE HASHES"* | *"Hash mismatch"*)
        fail "a package is not the one that requirements/serving.lock names: check the package index, see $log" ;;
    *"No module named venv"* | *"ensurepip is not available"*)
        fail "Python cannot make virtual environments: install python3-venv, or uv" ;;
    *"command 'gcc' failed"* | *"command 'cc' failed"* | *"command 'clang' failed"* | *"Visual C++"* | \
    *"Failed building wheel"* | *"Failed to build"* | *"Unable to find a compiler"*)
        fail "a package has no wheel for this Python and needs a compiler: install one (build-essential, Xcode), or set PYTHON to another Python; see $log" ;;
    *"Name or service not known"* | *"name resolution"* | *"nodename nor servname"* | *"dns error"* | \
    *"Failed to establish"* | *"Connection refused"* | *"timed out"* | *"error sending request"* | *"ProxyError"*)
        fail "a package index is out of reach: check the network, or name another one by PIP_INDEX_URL and UV_INDEX_URL; see $log" ;;
    *"No matching distribution"* | *"no versions of"* | *"No solution found"*)
        fail "a package has no release for this Python or system: set PYTHON to Python 3.11 or newer; see $log" ;;
    esac
    tail -n 5 "$log" >&2
    fail "the packages could not be installed: see $log"
}

found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2], sys.version_info >= (3, 11))' 2>/dev/null) ||
    fail "$python is no Python that runs here: install Python 3.11 or newer, or set PYTHON"
case $found in
*True) ;;
*) fail "Tiffin needs Python 3.11 or newer, $python is ${found% *}: set PYTHON" ;;
esac

echo "installing into $environment, which may take some minutes the first time: $*"
# One whose making was interrupted has a python, but no pip.
if ! "$environment/bin/python" -m pip --version >/dev/null 2>&1; then
    rm -rf "$environment/bin" "$environment/lib" "$environment/pyvenv.cfg"
    { uv --version && uv venv --seed --allow-existing --python "$python" "$environment"; } >"$log" 2>&1 ||
        "$python" -m venv "$environment" >"$log" 2>&1 || explain
fi
if [ "${INSTALLER:-pip}" = uv ] && uv --version >/dev/null 2>&1; then
    uv pip install --quiet --compile-bytecode --python "$environment/bin/python" "$@" >"$log" 2>&1 || explain
else
    "$environment/bin/python" -m pip install --quiet "$@" >"$log" 2>&1 || explain
fi
