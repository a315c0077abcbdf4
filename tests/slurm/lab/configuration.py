"""Configuration files of SLURM and sshd."""

from __future__ import annotations

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CONFIGURATION = """
ClusterName=lab
SlurmctldHost=login(10.78.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={shared}/munge/socket
StateSaveLocation={state}/controller
SlurmdSpoolDir=/run/slurmd-%n
SlurmctldPidFile={shared}/run/slurmctld.pid
SlurmdPidFile={shared}/run/slurmd-%n.pid
SlurmctldLogFile={shared}/log/slurmctld.log
SlurmdLogFile={shared}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=256
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=50000
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=60
KillWait=5
MessageTimeout=5
MailProg=/bin/true
PropagateResourceLimits=NONE
GresTypes=gpu
{nodes}
PartitionName=short Nodes=ALL Default=YES MaxTime=00:30:00 DefaultTime=00:10:00 State=UP
PartitionName=long Nodes=ALL MaxTime=2-00:00:00 DefaultTime=01:00:00 State=UP
"""

SSHD = """
HostKey {shared}/ssh/host
PidFile none
AuthorizedKeysFile {shared}/ssh/user.pub
PasswordAuthentication no
UsePAM no
StrictModes no
PermitRootLogin yes
SetEnv PATH={path} SLURM_CONF={shared}/slurm.conf
LogLevel ERROR
"""
