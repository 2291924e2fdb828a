"""Numbers of the IPVS generic netlink family; the names are those of include/uapi/linux/ip_vs.h."""

from __future__ import annotations

from typing import Final

IPVS_GENL_NAME: Final = "IPVS"
IPVS_GENL_VERSION: Final = 1

# enum: Generic Netlink command attributes.
IPVS_CMD_NEW_SERVICE: Final = 1
IPVS_CMD_SET_SERVICE: Final = 2
IPVS_CMD_DEL_SERVICE: Final = 3
IPVS_CMD_GET_SERVICE: Final = 4
IPVS_CMD_NEW_DEST: Final = 5
IPVS_CMD_SET_DEST: Final = 6
IPVS_CMD_DEL_DEST: Final = 7
IPVS_CMD_GET_DEST: Final = 8
IPVS_CMD_NEW_DAEMON: Final = 9
IPVS_CMD_DEL_DAEMON: Final = 10
IPVS_CMD_GET_DAEMON: Final = 11
IPVS_CMD_SET_CONFIG: Final = 12
IPVS_CMD_GET_CONFIG: Final = 13
IPVS_CMD_SET_INFO: Final = 14
IPVS_CMD_GET_INFO: Final = 15
IPVS_CMD_ZERO: Final = 16
IPVS_CMD_FLUSH: Final = 17

# enum: Attributes used in the first level of commands.
IPVS_CMD_ATTR_SERVICE: Final = 1
IPVS_CMD_ATTR_DEST: Final = 2
IPVS_CMD_ATTR_DAEMON: Final = 3
IPVS_CMD_ATTR_TIMEOUT_TCP: Final = 4
IPVS_CMD_ATTR_TIMEOUT_TCP_FIN: Final = 5
IPVS_CMD_ATTR_TIMEOUT_UDP: Final = 6

# enum: Attributes used to describe a service.
IPVS_SVC_ATTR_AF: Final = 1
IPVS_SVC_ATTR_PROTOCOL: Final = 2
IPVS_SVC_ATTR_ADDR: Final = 3
IPVS_SVC_ATTR_PORT: Final = 4
IPVS_SVC_ATTR_FWMARK: Final = 5
IPVS_SVC_ATTR_SCHED_NAME: Final = 6
IPVS_SVC_ATTR_FLAGS: Final = 7
IPVS_SVC_ATTR_TIMEOUT: Final = 8
IPVS_SVC_ATTR_NETMASK: Final = 9
IPVS_SVC_ATTR_STATS: Final = 10
IPVS_SVC_ATTR_PE_NAME: Final = 11
IPVS_SVC_ATTR_STATS64: Final = 12

# enum: Attributes used to describe a destination (real server).
IPVS_DEST_ATTR_ADDR: Final = 1
IPVS_DEST_ATTR_PORT: Final = 2
IPVS_DEST_ATTR_FWD_METHOD: Final = 3
IPVS_DEST_ATTR_WEIGHT: Final = 4
IPVS_DEST_ATTR_U_THRESH: Final = 5
IPVS_DEST_ATTR_L_THRESH: Final = 6
IPVS_DEST_ATTR_ACTIVE_CONNS: Final = 7
IPVS_DEST_ATTR_INACT_CONNS: Final = 8
IPVS_DEST_ATTR_PERSIST_CONNS: Final = 9
IPVS_DEST_ATTR_STATS: Final = 10
IPVS_DEST_ATTR_ADDR_FAMILY: Final = 11
IPVS_DEST_ATTR_STATS64: Final = 12
IPVS_DEST_ATTR_TUN_TYPE: Final = 13
IPVS_DEST_ATTR_TUN_PORT: Final = 14
IPVS_DEST_ATTR_TUN_FLAGS: Final = 15

# enum: Attributes used to describe service or destination entry statistics.
IPVS_STATS_ATTR_CONNS: Final = 1
IPVS_STATS_ATTR_INPKTS: Final = 2
IPVS_STATS_ATTR_OUTPKTS: Final = 3
IPVS_STATS_ATTR_INBYTES: Final = 4
IPVS_STATS_ATTR_OUTBYTES: Final = 5
IPVS_STATS_ATTR_CPS: Final = 6
IPVS_STATS_ATTR_INPPS: Final = 7
IPVS_STATS_ATTR_OUTPPS: Final = 8
IPVS_STATS_ATTR_INBPS: Final = 9
IPVS_STATS_ATTR_OUTBPS: Final = 10

# enum: Attributes used in response to IPVS_CMD_GET_INFO command.
IPVS_INFO_ATTR_VERSION: Final = 1
IPVS_INFO_ATTR_CONN_TAB_SIZE: Final = 2

# enum: Attributes used to describe a sync daemon.
IPVS_DAEMON_ATTR_STATE: Final = 1
IPVS_DAEMON_ATTR_MCAST_IFN: Final = 2
IPVS_DAEMON_ATTR_SYNC_ID: Final = 3
IPVS_DAEMON_ATTR_SYNC_MAXLEN: Final = 4
IPVS_DAEMON_ATTR_MCAST_GROUP: Final = 5
IPVS_DAEMON_ATTR_MCAST_GROUP6: Final = 6
IPVS_DAEMON_ATTR_MCAST_PORT: Final = 7
IPVS_DAEMON_ATTR_MCAST_TTL: Final = 8

IP_VS_IFNAME_MAXLEN: Final = 16
"""Bytes of an interface's name with the NUL at its end."""

# Virtual Service Flags. HASHED is the kernel's own business: it sets it, and keeps it through an edit.
IP_VS_SVC_F_PERSISTENT: Final = 0x0001
IP_VS_SVC_F_HASHED: Final = 0x0002
IP_VS_SVC_F_ONEPACKET: Final = 0x0004
IP_VS_SVC_F_SCHED1: Final = 0x0008
IP_VS_SVC_F_SCHED2: Final = 0x0010
IP_VS_SVC_F_SCHED3: Final = 0x0020

IP_VS_SCHEDNAME_MAXLEN: Final = 16
"""Bytes of a scheduler's name with the NUL at its end."""

IP_VS_PENAME_MAXLEN: Final = 16
"""Bytes of a persistence engine's name with the NUL at its end."""
