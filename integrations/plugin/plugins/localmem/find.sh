#!/bin/sh
# find.sh PROGRAM [ARGUMENT...]: runs a program of localmem, wherever it is on this machine.
#
# A hook is silent where localmem is not installed: a team may share the plugin without sharing that.
program=$1
shift
for folder in \
	"${LOCALMEM_HOME:-/nonexistent}/data/bin" \
	"${XDG_DATA_HOME:-$HOME/.local/share}/localmem/bin" \
	"$HOME/Library/Application Support/localmem/bin"; do
	[ -x "$folder/$program" ] && exec "$folder/$program" "$@"
done
command -v "$program" >/dev/null 2>&1 && exec "$program" "$@"
[ "$program" = localmem-hook ] && exit 0
command -v localmem >/dev/null 2>&1 && exec localmem mcp "$@"
echo "localmem is not installed here, or its launchers are missing; run: localmem install plugin" >&2
exit 1
