#!/usr/bin/env bash
# Puts ONNX Runtime's C and C++ headers into DEST/include/onnxruntime. They come from Debian trixie's libonnxruntime-dev, as
# no Python wheel carries them; the package is only unpacked, and apt works in folders of its own, so that the system stays as
# it is. Does nothing if the headers are there, or if ONNXRUNTIME_ROOT names a folder that has them already.
set -euo pipefail

readonly HEADER=include/onnxruntime/onnxruntime_cxx_api.h
readonly PACKAGE=libonnxruntime-dev
readonly SUITE=trixie

fail() {
  echo "error: $1" >&2
  exit 1
}

# The first Debian mirror that the machine is configured with, from one-line (*.list) and deb822 (*.sources) files.
configured_mirror() {
  local file files=()
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    if [ -r "$file" ]; then files+=("$file"); fi
  done
  [ "${#files[@]}" -gt 0 ] || return 0
  awk '
    /^[[:space:]]*#/ { next }
    $1 == "deb" || tolower($1) == "uris:" {
      for (i = 2; i <= NF; ++i) {
        uri = $i
        sub(/\/+$/, "", uri)
        if (uri ~ /^[a-z+]+:\/\/.*\/debian$/) { print uri; exit }
      }
    }' "${files[@]}"
}

[ $# -eq 1 ] || fail "usage: $0 DEST"
dest=$1
if [ -n "${ONNXRUNTIME_ROOT:-}" ]; then
  [ -f "$ONNXRUNTIME_ROOT/$HEADER" ] && exit 0
  # A root that is to be filled now may be named by the variable too; any other one is a mistake to be told.
  [ "$(realpath -m "$ONNXRUNTIME_ROOT")" = "$(realpath -m "$dest")" ] || fail "ONNXRUNTIME_ROOT=$ONNXRUNTIME_ROOT has no $HEADER"
fi
[ -f "$dest/$HEADER" ] && exit 0

command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
  fail "apt-get and dpkg are needed to get ONNX Runtime's headers; set ONNXRUNTIME_ROOT to a folder that has $HEADER"
mirror=$(configured_mirror)
[ -n "$mirror" ] || fail "no Debian mirror in /etc/apt/sources.list*; set ONNXRUNTIME_ROOT to a folder that has $HEADER"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || fail "$keyring is missing; install debian-archive-keyring, or set ONNXRUNTIME_ROOT"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"  # apt reads as another user.
mkdir -p "$work"/{state/lists/partial,cache/archives/partial,package}
: >"$work/state/status"
echo "deb [signed-by=$keyring] $mirror $SUITE main" >"$work/sources.list"
apt_options=(-qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o Dir::State="$work/state" -o Dir::State::Status="$work/state/status" -o Dir::Cache="$work/cache"
  -o Acquire::Languages=none -o APT::Sandbox::User=)

cd "$work/package"
apt-get "${apt_options[@]}" update 2>"$work/log" || fail "apt-get update of $mirror $SUITE: $(tail -n 1 "$work/log")"
apt-get "${apt_options[@]}" download "$PACKAGE" >/dev/null 2>"$work/log" || fail "apt-get download $PACKAGE: $(tail -n 1 "$work/log")"
cd - >/dev/null
dpkg -x "$work"/package/*.deb "$work/unpacked" || fail "cannot unpack $PACKAGE"
[ -f "$work/unpacked/usr/$HEADER" ] || fail "$PACKAGE of $SUITE has no $HEADER"

# Into place as a whole: a folder that has the header is complete.
mkdir -p "$dest/include"
rm -rf "$dest/include/onnxruntime" "$dest/include/onnxruntime.part"
cp -r "$work/unpacked/usr/include/onnxruntime" "$dest/include/onnxruntime.part"
mv "$dest/include/onnxruntime.part" "$dest/include/onnxruntime"
