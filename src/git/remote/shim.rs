//! The program `ssh` that runs the real one, so that it asks nothing and leaves nothing behind.
//!
//! It is a script that `/bin/sh` runs, since temporary space may be mounted `noexec`. It is also in the search path, for a user's
//! own program that calls `ssh` without a path.

use std::fs;
use std::path::{Path, PathBuf};

use super::ssh_config::{OPTIONS, PLAIN_CONFIG, STRICT_CONFIG, STRICT_MARK, write};
use crate::failure::Failure;
use crate::git::error::io_failure;

/// The script. Words between `@` are replaced.
///
/// A host key that the user's configuration accepts without a question is added to a file in the scratch directory, and not to
/// the user's. A jump host is also reached by this program, so that its key is accepted in the same way.
const SCRIPT: &str = r#"#!/bin/sh
real=${PROVISION_SSH:-@REAL@}
unset PROVISION_SSH
PROVISION_HOPS=$((${PROVISION_HOPS:-0} + 1))
export PROVISION_HOPS
at=@AT@
config=$at/@PLAIN_CONFIG@
file=

# Only options before the host are read. The last -F and the first -J count.
count=$#
past=
while [ "$count" -gt 0 ]; do
	word=$1
	shift
	count=$((count - 1))
	case $past$word in
	-[bcDEeFIiJLlmOoPpQRSWwB])
		value=$1
		[ "$count" -eq 0 ] || shift
		count=$((count - 1))
		case "$word $value" in
		"-o @STRICT_MARK@") ;;
		"-F "*) file=$value ;;
		"-J "*) set -- "$@" -o "ProxyJump=$value" ;;
		*) set -- "$@" "$word" "$value" ;;
		esac
		;;
	-F*) file=${word#-F} ;;
	-J*) set -- "$@" -o "ProxyJump=${word#-J}" ;;
	-*) set -- "$@" "$word" ;;
	*)
		past=past
		set -- "$@" "$word"
		;;
	esac
done

# ssh passes no other option on to the ssh of a jump host than -F.
case $file in
'' | "$at/@STRICT_CONFIG@") ;;
"$at"/*) config=$file ;;
*)
	config=$at/config.$$
	{ cat "$at/options" && { [ "$file" = none ] || cat "$file"; }; } >"$config" 2>/dev/null || config=$file
	;;
esac

shown=$("$real" -G @OPTIONS@ -F "$config" "$@" </dev/null 2>/dev/null)
value() { printf '%s\n' "$shown" | sed -n "s/^$1 //p"; }
quoted() { printf '%s\n' "$1" | sed "s/'/'\\\\''/g; s/%/%%/g; s/^/'/; s/\$/'/"; }
# ssh replaces %h, %n, %p and %r in a jump, as in a ProxyCommand.
with_tokens() { printf '%s\n' "$1" | sed "s/'/'\\\\''/g; s/^/'/; s/\$/'/"; }

proxy=$(value proxycommand | @REPLACE@)
jump=$(value proxyjump)
case $jump in
'' | none) ;;
*)
	hop=${jump##*,}
	jump=${jump%"$hop"}
	jump=${jump%,}
	proxy="env PROVISION_SSH=$(quoted "$real") /bin/sh $(quoted @PROGRAM@) -F $(quoted "$config")"
	case $hop in
	*@*) proxy="$proxy -l $(with_tokens "${hop%@*}")" ;;
	esac
	hop=${hop##*@}
	case $hop in
	*]:* | [!\[]*:*)
		proxy="$proxy -p $(with_tokens "${hop##*:}")"
		hop=${hop%:*}
		;;
	esac
	hop=${hop#"["}
	hop=${hop%"]"}
	proxy="$proxy ${jump:+-J $(with_tokens "$jump") }-W '[%h]:%p' $(with_tokens "$hop")"
	if [ "$PROVISION_HOPS" -gt @MAX_HOPS@ ]; then
		echo "ssh: jumphost loop via $hop" >&2
		exit 255
	fi
	;;
esac
case $proxy in
*"/bin/sh "*@PROGRAM@*) set -- -o "ProxyCommand=$proxy" "$@" ;;
esac

strict=$(value stricthostkeychecking)
known=$(value userknownhostsfile)
[ "$known" != none ] || known=
# A name with a space looks like two names.
case " $known" in
*" "[!/~]*) strict=yes ;;
esac
case $strict in
no | off | false | accept-new)
	set -- -o "StrictHostKeyChecking=$strict" -o "UserKnownHostsFile=\"$at/known_hosts\" $known" "$@"
	;;
*) set -- -o StrictHostKeyChecking=yes "$@" ;;
esac
exec "$real" @OPTIONS@ -F "$config" "$@"
"#;

/// The maximum number of hosts on the way. ssh itself does not notice every chain of jumps that leads back to itself.
const MAX_HOPS: usize = 10;

/// Replaces each ssh in a `ProxyCommand`, where a shell expects a command: at the beginning, after `exec` or an operator, and at
/// the beginning of a quotation.
const REPLACE: &str = r#"sed -E "s#(^|exec +|[;&|(] *|[\"'])(/[^ \"';&|()]*/ssh) #\1env PROVISION_SSH=\2 /bin/sh @PROGRAM@ #g; s#(^|exec +|[;&|(] *|[\"'])ssh #\1/bin/sh @PROGRAM@ #g""#;

/// Creates the program in a new directory in `at`, the scratch directory, and returns its path. It runs `real`, or what
/// `PROVISION_SSH` names.
pub fn create(at: &Path, real: &Path) -> Result<PathBuf, Failure> {
    let folder = at.join("bin");
    let program = folder.join("ssh");
    let name = program.to_string_lossy();
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
    let options = OPTIONS.map(|option| format!("-o {option}")).join(" ");
    let script = SCRIPT
        // Within quotation marks of the user's, no others can be used.
        .replace("@REPLACE@", if is_plain { REPLACE } else { "cat" })
        .replace("@REAL@", &shell_quoted(&real.to_string_lossy()))
        .replace("@AT@", &shell_quoted(&at.to_string_lossy()))
        .replace("@PROGRAM@", &if is_plain { name.to_string() } else { shell_quoted(&name) })
        .replace("@MAX_HOPS@", &MAX_HOPS.to_string())
        .replace("@OPTIONS@", &options)
        .replace("@PLAIN_CONFIG@", PLAIN_CONFIG)
        .replace("@STRICT_CONFIG@", STRICT_CONFIG)
        .replace("@STRICT_MARK@", STRICT_MARK);
    fs::create_dir(&folder).map_err(io_failure("create", &folder))?;
    write(&program, script.as_bytes(), 0o700)?;
    Ok(program)
}

/// Quotes a word for `sh`, which runs git's commands.
pub fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
