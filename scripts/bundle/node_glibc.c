// Status 0 where the node has a C library at least as new as the one that the bundle was built with. Where it is much
// older or absent, this does not even start, which says the same.
#include <gnu/libc-version.h>
#include <stdlib.h>

int main(void) {
  char *rest;
  const long major = strtol(gnu_get_libc_version(), &rest, 10);
  const long minor = *rest == '.' ? strtol(rest + 1, NULL, 10) : 0;
  return major > __GLIBC__ || (major == __GLIBC__ && minor >= __GLIBC_MINOR__) ? 0 : 1;
}
