#!/usr/bin/env bash
# Puts the C++ sources of xgrammar (cpp, include, 3rdparty/dlpack, 3rdparty/picojson, licences) into DEST, from the source
# distribution on the package index that pip is configured with. Its wheel has a static library too, but one of link-time code
# that only the compiler that made it can read. Does nothing if DEST has this version, or if XGRAMMAR_ROOT names a folder that
# has the sources already. PYTHON chooses the interpreter.
set -euo pipefail

readonly VERSION=0.1.34
readonly SHA256=ac72a4c3fdb56654bf904fce11cd7135d7cdba696e5d03039f90e1655b97ede4
readonly HEADER=include/xgrammar/xgrammar.h

fail() {
  echo "error: $1" >&2
  exit 1
}

[ $# -eq 1 ] || fail "usage: $0 DEST"
dest=$1
if [ -n "${XGRAMMAR_ROOT:-}" ]; then
  [ -f "$XGRAMMAR_ROOT/$HEADER" ] && exit 0
  # A root that is to be filled now may be named by the variable too; any other one is a mistake to be told.
  [ "$(realpath -m "$XGRAMMAR_ROOT")" = "$(realpath -m "$dest")" ] || fail "XGRAMMAR_ROOT=$XGRAMMAR_ROOT has no $HEADER"
fi
[ "$(cat "$dest/VERSION" 2>/dev/null)" = "$VERSION" ] && exit 0

python=${PYTHON:-python3}
command -v "$python" >/dev/null || fail "$python is needed to get xgrammar; set PYTHON, or XGRAMMAR_ROOT to a folder that has $HEADER"
index=${PIP_INDEX_URL:-$("$python" -m pip config get global.index-url 2>/dev/null || true)}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" "$(dirname "$0")/fetch_sdist.py" --index "${index:-https://pypi.org/simple}" --sha256 "$SHA256" \
  --output "$work/xgrammar.tar.gz" xgrammar "xgrammar-$VERSION.tar.gz"
source=xgrammar-$VERSION
tar -xzf "$work/xgrammar.tar.gz" -C "$work" "$source"/{cpp,include,3rdparty/dlpack/include,3rdparty/picojson,LICENSE,NOTICE} ||
  fail "cannot unpack $source.tar.gz"
[ -f "$work/$source/$HEADER" ] || fail "$source.tar.gz has no $HEADER"
echo "$VERSION" >"$work/$source/VERSION"

# Into place as a whole: a folder that has a VERSION is complete.
mkdir -p "$(dirname "$dest")"
rm -rf "$dest" "$dest.part"
cp -r "$work/$source" "$dest.part"
mv "$dest.part" "$dest"
