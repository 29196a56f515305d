#!/usr/bin/env bash
# What the tests of examples/ need besides Python: compilers, Node.js, Chromium, ONNX Runtime's headers, npm packages.
# For Debian and its children. System packages are installed as root only; everything else goes to ignored folders.
set -euo pipefail
cd "$(dirname "$0")/.."
headers=build/examples/onnxruntime/include
libraries=build/examples/onnxruntime/lib

npm_packages() {
    for folder in examples/node examples/web tests/project/workflows; do
        lock=$folder/package-lock.json
        kept=build/examples/${folder##*/}.lock
        if command -v npm >/dev/null && ! { [ -d "$folder/node_modules" ] && cmp -s "$lock" "$kept"; }; then
            # `|| return`: a function behind `||` runs without errexit
            npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error || return
            mkdir -p build/examples
            cp "$lock" "$kept"
        fi
    done
}

# The C++ library and its providers are in the onnxruntime wheel of the environment: they are linked as a release lays
# them out. A library knows the API of its own version, <major>.<API>.<patch>, and of all before.
wheel_library() {
    local venv=${VENV:-.venv} find capi library version api name
    [ -x "$venv/bin/python" ] || { echo "there is no $venv: \`make demo\` sets it up; then run this again"; return 1; }
    find='import importlib.util as u; print(*u.find_spec("onnxruntime").submodule_search_locations)'
    capi=$("$venv/bin/python" -c "$find" 2>/dev/null)/capi ||
        { echo "$venv has no onnxruntime: \`make demo\` installs it; then run this again"; return 1; }
    library=$(compgen -G "$capi/libonnxruntime.so.*" | head -n 1)
    [ -n "$library" ] || { echo "$venv has an onnxruntime without libonnxruntime.so: set ORT_ROOT"; return 1; }
    version=${library##*.so.}
    api=$(sed -nE 's/^#define ORT_API_VERSION ([0-9]+).*/\1/p' "$headers/onnxruntime_c_api.h") || return 1
    if [ "$api" -gt "$(cut -d. -f2 <<<"$version")" ]; then
        echo "the headers are of API $api, newer than the library $version of $venv: upgrade that, or set ORT_ROOT"
        return 1
    fi
    mkdir -p "$libraries"
    for name in libonnxruntime.so "libonnxruntime.so.${version%%.*}"; do
        linked "$library" "$libraries/$name"
    done
    for name in "$capi"/libonnxruntime_providers_*.so; do
        [ ! -e "$name" ] || linked "$name" "$libraries/${name##*/}"
    done
}

# linked TARGET LINK: by one rename, so that whoever builds with it meanwhile finds the one or the other
linked() {
    ln -s "$1" "$2.$$"
    mv -fT "$2.$$" "$2"
}

# Nothing where there are no headers, or where ORT_ROOT names a release that has both.
library_or_without() {
    local why
    if [ -z "${ORT_ROOT:-}" ] && [ -f "$headers/onnxruntime_c_api.h" ] && ! why=$(wheel_library); then
        echo "no ONNX Runtime library in $libraries: $why." >&2
        return 1
    fi
}

# `--library`: only that, and exit code 1 without. `--npm`: that and what npm brings, nothing of the system; a machine
# without npm, or without its registry, does without.
npm_or_without() {
    npm_packages || echo "npm brought nothing: tests of Node.js, the web page and the workflows skip." >&2
}
if [ "${1:-}" = --library ]; then
    library_or_without
    exit
fi
if [ "${1:-}" = --npm ]; then
    library_or_without || true
    npm_or_without
    exit 0
fi

# As root all the way: apt's own user may not write to the folder for temporary files of a bare container.
system_packages() {
    local apt=(apt-get -qq -o APT::Sandbox::User=root)
    "${apt[@]}" update || return
    DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null
}

missing=()
for pair in cmake:cmake g++:g++ node:nodejs npm:npm chromium:chromium chromedriver:chromium-driver; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        echo "missing: ${missing[*]}. Install them, then run this again; tests that need them skip until then." >&2
    elif ! system_packages "${missing[@]}"; then
        echo "apt brought nothing (${missing[*]}): the tests that need them skip." >&2
    fi
fi

# The C++ headers: an official release where ORT_ROOT names one, else Debian's package, unpacked and not installed.
# It came with Debian 13, so its index is read from there, through the mirror that this machine is set to.
debian_headers() {
    local work mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    work=$(mktemp -d)
    trap 'rm -rf "$work"' RETURN
    chmod 755 "$work"
    mkdir -p "$work/lists/partial" "$work/archives/partial"
    touch "$work/status"
    mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        grep -oE '(https?|file|mirror\+[a-z]+):[^] ]*/debian/?([[:space:]]|$)' | head -n 1 | tr -d '[:space:]')
    [ -n "$mirror" ] || { echo "apt knows no Debian mirror" >&2; return 1; }
    echo "deb [signed-by=$keyring] $mirror trixie main" >"$work/sources.list"
    local apt=(apt-get -qq -o "Dir::State=$work" -o "Dir::State::lists=$work/lists" -o "Dir::State::status=$work/status"
        -o "Dir::Cache=$work" -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=-
        -o Acquire::Languages=none -o APT::Sandbox::User=root)
    "${apt[@]}" update
    (cd "$work" && "${apt[@]}" download libonnxruntime-dev)
    dpkg -x "$work"/libonnxruntime-dev_*.deb "$work/unpacked"
    mkdir -p "$(dirname "$headers")"
    rm -rf "$headers"
    cp -r "$work/unpacked/usr/include/onnxruntime" "$headers"
}
if [ -z "${ORT_ROOT:-}" ] && [ ! -f "$headers/onnxruntime_cxx_api.h" ]; then
    if ! command -v apt-get >/dev/null || ! debian_headers; then
        echo "no ONNX Runtime headers: set ORT_ROOT to an unpacked release; the C++ test skips until then." >&2
    fi
fi

library_or_without || true
npm_or_without
