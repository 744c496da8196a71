// Catch2 2 (Debian 12) and 3 (Debian 13) under one include.
#pragma once
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
namespace plsc::test {
using Catch::Approx;
}
#else
#include <catch2/catch.hpp>
namespace plsc::test {
using Catch::Detail::Approx;  // Catch::Approx is a matcher in version 2
}
#endif
