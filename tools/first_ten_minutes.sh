#!/usr/bin/env bash
# What a newcomer's first ten minutes are: in an empty home, with nothing on the PATH but what README asks for, and on a
# terminal of 80 columns, install in both ways of README and run its commands that need no data.
#
#     tools/first_ten_minutes.sh                    # both ways; the network is needed, and some 12 GB for a while
#     tools/first_ten_minutes.sh --installed VENV   # the commands alone, in an environment of `make demo`
#
# Prints what docs/first-ten-minutes.md shows. Exit code 1 where a command of README fails, 2 for wrong usage, 3 where
# something is missing or does not install.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

end() {
    echo "error: $2" >&2
    exit "$1"
}

installed=
if [ $# = 2 ] && [ "$1" = --installed ]; then
    [ -x "$2/bin/cifar-export" ] || end 2 "no environment with cifar-export is at $2. \`make demo\` makes one."
    installed=$(cd "$2" && pwd)
elif [ $# != 0 ]; then
    end 2 "usage: tools/first_ten_minutes.sh [--installed VENV]"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/home" "$work/tmp" "$work/bin"
python=$("${PYTHON:-python3}" -c 'import sys; print(sys.executable)' 2>/dev/null) ||
    end 3 "there is no python3. Install it, or name one in PYTHON."
printf '#!/bin/sh\nexec %q "$@"\n' "$python" >"$work/bin/python3" && chmod 755 "$work/bin/python3"
for tool in git make sh env grep sed sort expand test touch ls cat mkdir rm cp ln uname tar; do
    place=$(type -P "$tool") || end 3 "there is no $tool. Install it."
    ln -s "$place" "$work/bin/$tool"
done
# of ours, only how packages are reached, and how many threads are allowed
kept=()
for name in $(compgen -e | grep -E '^(PIP_.*|[A-Za-z]+_(proxy|PROXY)|SSL_CERT_(FILE|DIR)|OMP_NUM_THREADS)$' || true); do
    kept+=("$name=${!name}")
done

# newcomer VENV COMMAND...: as after `source VENV/bin/activate`; a GPU is not shown, so that the page is every machine's
newcomer() {
    local venv=$1
    shift
    env -i "HOME=$work/home" "TMPDIR=$work/tmp" "PATH=$venv/bin:$work/bin" "VIRTUAL_ENV=$venv" TERM=xterm COLUMNS=80 \
        LANG=C.UTF-8 CUDA_VISIBLE_DEVICES= PYTHONDONTWRITEBYTECODE=1 "${kept[@]}" "$@"
}

checkout() {
    git clone --quiet "$root" "$1" 2>"$work/log" || end 3 "git cannot clone $root: $(tail -n 1 "$work/log")"
}

# install VENV COMMAND...: what it says is left out, unless it fails
install() {
    newcomer "$@" >"$work/log" 2>&1 || end 3 "\`${*:2}\` failed: $(grep -v '^make' "$work/log" | tail -n 1)"
}

code=0
transcript() {
    newcomer "$1" "$1/bin/python" "$root/tools/transcript.py" "${@:2}" || code=1
}

checkout "$work/made"
if [ -n "$installed" ]; then
    transcript "$installed" "$work/made"
    exit "$code"
fi
cd "$work/made"
install "$work/made/.venv" make demo
transcript "$work/made/.venv" "$work/made" >"$work/first"
cat "$work/first"
rm -rf "$work/made/.venv"

echo "After \`pip install .\`, where the answer is another one:"
echo
checkout "$work/alone"
cd "$work/alone"
install "$work/venv" python3 -m venv "$work/venv"
install "$work/venv" pip install .
transcript "$work/venv" "$work/alone" --but "$work/first"
exit "$code"
