// Which network interfaces Open MPI was told to take, and how the doctor keeps it off those that would hang it.
#pragma once
#include <string>

namespace plsc::doctor {

constexpr const char* kMpiInclude = "OMPI_MCA_btl_tcp_if_include";
constexpr const char* kMpiExclude = "OMPI_MCA_btl_tcp_if_exclude";

/// By the environment (mpirun --mca becomes that too), or by a file of the site or the user.
bool interfaces_are_chosen();

/// Before MPI is started: keeps Open MPI off bridges without a card of this machine behind them (docker0, virbr0),
/// where there may be other hosts and nobody has told it what to take. The addresses of such bridges are the same on
/// every host, and a rank that calls one hangs in its first message: the doctor could not say why.
void avoid_bridges();
/// Whether Open MPI's list is that of avoid_bridges: training would have none.
bool bridges_are_avoided();

}  // namespace plsc::doctor
