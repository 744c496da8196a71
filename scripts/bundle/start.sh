# Read by the scripts in bin/, which have set $root: how a program of the bundle is started. POSIX shell, and no program
# of the node but where one is named (ldconfig and python3, when CUDA's libraries are nowhere else).
#
# Programs find the bundle's libraries by themselves (a run path relative to their own place), so that the environment
# stays as it is for what they start: ssh, srun. Two things need more: CUDA's or MPI's libraries of the node
# (LD_LIBRARY_PATH, for that program alone: mpirun gets the caller's back), and a node whose C library is older than the
# bundle's (the bundle's own loader starts the program).

. "$root/libexec/bundle.conf"  # own_mpi, own_cuda, cuda_programs, cuda_sonames, cuda_optional

PLSC_SOURCE_DIR=$root  # where test programs find their stored outputs, and the configurations
export PLSC_SOURCE_DIR

# fail TEXT HINT: as the programs themselves report an error.
fail() {
  printf 'error: %s\n  hint: %s\n' "$1" "$2" >&2
  exit 1
}

# Lists of folders have these between their parts: the loader's and Open MPI's.
case $root in
  *[:\;]*) fail "this bundle lies in '$root': a path with : or ; cannot stand in lists of folders" "move the bundle to another folder" ;;
esac

# Tells the bundle's Open MPI, PMIx and hwloc where they are now. No plugins of the node's own installations are looked at.
use_own_mpi() {
  OPAL_PREFIX=$root/mpi OPAL_BINDIR=$root/mpi/bin OPAL_LIBDIR=$root/mpi/lib OPAL_SYSCONFDIR=$root/mpi/etc
  OPAL_PKGLIBDIR=$root/mpi/lib/openmpi OPAL_PKGDATADIR=$root/mpi/share/openmpi
  PMIX_INSTALL_PREFIX=$root/mpi PMIX_LIBDIR=$root/mpi/lib PMIX_PKGLIBDIR=$root/mpi/lib/pmix PMIX_SYSCONFDIR=$root/mpi/etc
  PMIX_PKGDATADIR=$root/mpi/share/pmix HWLOC_PLUGINS_PATH=$root/mpi/lib/hwloc
  export OPAL_PREFIX OPAL_BINDIR OPAL_LIBDIR OPAL_SYSCONFDIR OPAL_PKGLIBDIR OPAL_PKGDATADIR
  export PMIX_INSTALL_PREFIX PMIX_LIBDIR PMIX_PKGLIBDIR PMIX_SYSCONFDIR PMIX_PKGDATADIR HWLOC_PLUGINS_PATH
  # mpirun puts its folder (which has no libraries but plugins) before the caller's for every rank.
  while :; do
    case ${LD_LIBRARY_PATH:-} in
      "$root/mpi/lib:"*) LD_LIBRARY_PATH=${LD_LIBRARY_PATH#"$root/mpi/lib:"} ;;
      "$root/mpi/lib" | :) unset LD_LIBRARY_PATH ;;
      *) break ;;
    esac
  done
  # PMIx crashes where there is neither HOME nor an entry of the user in /etc/passwd.
  HOME=${HOME:-/}
  export HOME
  case ":$PATH:" in
    ":$root/bin:"*) ;;
    *) PATH=$root/bin:$PATH; export PATH ;;
  esac
}

# UCX is for InfiniBand; on nodes without it ranks have crashed as Open MPI loaded and dropped it again.
without_infiniband() {
  for device in /sys/class/infiniband/*; do
    if [ -e "$device" ]; then return; fi
  done
  OMPI_MCA_pml=${OMPI_MCA_pml:-^ucx}
  export OMPI_MCA_pml
}

# The site's Open MPI: libmpi.so.40 in MPI_HOME, LD_LIBRARY_PATH, beside the mpirun of PATH, or where the loader looks.
use_site_mpi() {
  if [ -n "${MPI_HOME:-}" ] && [ -x "$MPI_HOME/bin/mpirun" ]; then PATH=$MPI_HOME/bin:$PATH; export PATH; fi
  mpirun=$(command -v mpirun) || mpirun=
  beside=${mpirun%/*}/..
  places=${MPI_HOME:+$MPI_HOME/lib:$MPI_HOME/lib64:}${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}
  places=$places${mpirun:+$beside/lib:$beside/lib64:$beside/lib64/openmpi/lib:$beside/lib/x86_64-linux-gnu:}
  places=$places/usr/lib64/openmpi/lib:/usr/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu/openmpi/lib
  if look libmpi.so.40 "$places"; then
    # The loader's own folders hold the node's other libraries, too: they are not put before the bundle's.
    case $found in /lib/*-linux-gnu | /usr/lib/*-linux-gnu | */../lib/x86_64-linux-gnu) ;; *) library_path=$found ;; esac
  elif ! in_cache libmpi.so.40; then
    fail "this bundle uses the site's MPI, and there is no libmpi.so.40 (Open MPI 4 or 5) in $places" \
      "load the site's module of Open MPI, set MPI_HOME or LD_LIBRARY_PATH, or use a bundle with its own MPI"
  fi
}

# look SONAME FOLDER:FOLDER:...: sets $found to the first folder that has it; status 1 where none has.
look() {
  remaining=$2:
  while [ -n "$remaining" ]; do
    found=${remaining%%:*}
    remaining=${remaining#*:}
    if [ -n "$found" ] && [ -e "$found/$1" ]; then return 0; fi
  done
  found=
  return 1
}

# in_cache SONAME: whether the node's loader finds it without being told where.
in_cache() {
  if [ -z "${cache+set}" ]; then cache=$(PATH=$PATH:/sbin:/usr/sbin; ldconfig -p 2>/dev/null) || cache=; fi
  case $cache in *"	$1 ("*x86-64*) return 0 ;; esac
  return 1
}

# start PROGRAM ARGUMENTS...: becomes libexec/PROGRAM.
start() {
  program=$1
  shift
  library_path=
  if [ "$own_mpi" = yes ]; then
    use_own_mpi
    without_infiniband
  else
    use_site_mpi
  fi
  . "$root/libexec/find_cuda.sh"
  case $program in
    plsc-train)
      PLSC_EXECUTABLE=$root/bin/plsc-train
      export PLSC_EXECUTABLE
      unset PLSC_CUDA_PROBLEM PLSC_CUDA_REMEDY
      if [ -n "$cuda_programs" ]; then
        if find_cuda; then
          program=plsc-train-cuda
        else
          PLSC_CUDA_PROBLEM=$cuda_problem PLSC_CUDA_REMEDY="$cuda_remedy, or use device: cpu"
          export PLSC_CUDA_PROBLEM PLSC_CUDA_REMEDY
        fi
      fi
      ;;
    *)
      case " $cuda_programs " in
        *" $program "*) find_cuda || without_cuda "$program" ;;
      esac
      ;;
  esac
  become "$root/libexec/$program" "$@"
}

# without_cuda PROGRAM: a test says by status 77 that it is skipped, as it does itself where there is no GPU.
without_cuda() {
  if [ ! -e /dev/nvidiactl ] && [ ! -e /dev/dxg ]; then
    echo "$1: skipped: there is no GPU here; and $cuda_problem" >&2
    exit 77
  fi
  fail "$1: $cuda_problem" "$cuda_remedy"
}

# start_mpirun ARGUMENTS...: the bundle's mpirun, which starts its helpers on other hosts from the same folder.
start_mpirun() {
  library_path=
  use_own_mpi
  if [ -n "${PLSC_CALLER_LIBRARY_PATH+set}" ]; then
    LD_LIBRARY_PATH=$PLSC_CALLER_LIBRARY_PATH
    unset PLSC_CALLER_LIBRARY_PATH
    if [ -z "$LD_LIBRARY_PATH" ]; then unset LD_LIBRARY_PATH; else export LD_LIBRARY_PATH; fi
  fi
  # Without a way to other hosts Open MPI would refuse to start ranks on this one, too.
  if ! command -v ssh >/dev/null && ! command -v rsh >/dev/null; then
    OMPI_MCA_plm=${OMPI_MCA_plm:-^rsh}
    export OMPI_MCA_plm
  fi
  for argument; do
    case $argument in --prefix | -prefix) become "$root/mpi/bin/mpirun" "$@" ;; esac
  done
  become "$root/mpi/bin/mpirun" --prefix "$root/mpi" "$@"
}

# start_orted ARGUMENTS...: mpirun's helper on another host.
start_orted() {
  library_path=
  use_own_mpi
  become "$root/libexec/orted" "$@"
}

# run NAME|PATH ARGUMENTS...: any program below libexec/: plsc-data, tests/test_gpu_nn, test_gpu_nn, or its path.
run() {
  if [ $# -eq 0 ] || [ "$1" = --help ]; then
    echo "usage: ${0##*/} PROGRAM ARGUMENTS...: starts a program of the bundle, by name or path, with its libraries:"
    (cd "$root/libexec" && for program in plsc-* tests/* bench/*; do [ -f "$program" ] && echo "  $program"; done)
    exit 0
  fi
  name=$1
  shift
  for program in "${name##*/libexec/}" "tests/${name##*/}" "bench/${name##*/}" "${name##*/}"; do
    if [ -x "$root/libexec/$program" ] && [ ! -d "$root/libexec/$program" ]; then start "$program" "$@"; fi
  done
  fail "$name: no such program in $root/libexec" "$root/bin/run --help lists them"
}

# become FILE ARGUMENTS...
become() {
  file=$1
  shift
  paths=$library_path${LD_LIBRARY_PATH:+${library_path:+:}$LD_LIBRARY_PATH}
  if [ "${PLSC_GLIBC:-}" != own ] && "$root/libexec/node_glibc" 2>/dev/null; then
    if [ -n "$library_path" ]; then
      PLSC_CALLER_LIBRARY_PATH=${LD_LIBRARY_PATH:-}
      LD_LIBRARY_PATH=$paths
      export LD_LIBRARY_PATH PLSC_CALLER_LIBRARY_PATH
    fi
    exec "$file" "$@"
  fi
  exec "$root/lib/glibc/ld-linux-x86-64.so.2" --library-path "$root/lib/glibc${paths:+:$paths}" "$file" "$@"
}
