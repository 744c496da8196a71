#!/bin/sh
# Starts @PROGRAM@ of this bundle with the bundle's libraries. For any POSIX shell; works through symbolic links.
set -u
case $0 in */*) self=$0 ;; *) self=./$0 ;; esac
while [ -h "$self" ]; do
  link=$(readlink "$self")
  case $link in
    /*) self=$link ;;
    *) self=${self%/*}/$link ;;
  esac
done
root=$(cd -P "${self%/*}/@UP@" && pwd -P) || exit 1
. "$root/libexec/start.sh"
@START@
