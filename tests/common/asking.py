"""A request for every RPC that changes something, such that it would; one after the other does."""

from __future__ import annotations

from google.protobuf.message import Message
from google.protobuf.text_format import Parse

from agent_common.destination import Destination, DestinationKey, Forwarding
from agent_common.virtual_server import VirtualServer, parse_key, parse_unicast
from agent_director.fake_ipvs import FakeIpvs
from tests.hosts import DirectorHost

_MADE = 'service_address { protocol: PROTOCOL_TCP address: "192.168.0.200" port: 80 }'
_BATCHED = 'service_address { protocol: PROTOCOL_TCP address: "192.168.0.201" port: 80 }'
_FOREIGN = 'service_address { protocol: PROTOCOL_TCP address: "192.168.0.210" port: 80 }'
_RS_KEY = 'address: "192.168.0.104" port: 80'
_RS = f"key {{ {_RS_KEY} }}"
_FOR_BACKEND = f'holder {{ virtual_server {{ key {{ {_MADE} }} authority: "id" }} }}'

SHARED = {
    "VipService/CreateVip": 'vip { address: "192.168.0.205" } holder { operator: "ada" }',
    "VipService/DeleteVip": 'address: "192.168.0.205" holder { operator: "ada" }',
    "TransactionService/PrepareTransaction": f"""
        transaction_id: "t" authority: "id" participants {{ kind: AGENT_KIND_DIRECTOR agent_id: "id" }}
        lease {{ seconds: 60 }}
        operations {{ create_vip {{ vip {{ address: "192.168.0.200" }} {_FOR_BACKEND} }} }}""",
    "TransactionService/RenewTransaction": 'transaction_id: "t" lease { seconds: 600 }',
    "TransactionService/AbortTransaction": 'transaction_id: "t"',
    "TransactionService/ForgetTransaction": 'transaction_id: "t"',
    "TransactionService/ResolveTransaction": 'transaction_id: "u"',
    "ChangeService/RevertChange": 'change_id: "c"',
}
DIRECTOR = {
    **SHARED,
    "IpvsService/CreateVirtualServer": f'virtual_server {{ key {{ {_MADE} }} scheduler: "rr" }}',
    "IpvsService/UpdateVirtualServer": f"""
        virtual_server {{ key {{ {_MADE} }} scheduler: "wlc" }} update_mask {{ paths: "scheduler" }}""",
    "IpvsService/CreateDestination": f"virtual_server {{ {_MADE} }} destination {{ {_RS} weight: 1 }}",
    "IpvsService/UpdateDestination": f"""
        virtual_server {{ {_MADE} }} destination {{ {_RS} weight: 7 }} update_mask {{ paths: "weight" }}""",
    "HealthService/SetHealth": f"virtual_server {{ {_MADE} }} policy {{ check {{ tcp {{}} }} }}",
    "HealthService/DeleteHealth": f"virtual_server {{ {_MADE} }}",
    "IpvsService/DeleteDestination": f"virtual_server {{ {_MADE} }} destination {{ {_RS_KEY} }}",
    "IpvsService/DeleteVirtualServer": f"key {{ {_MADE} }}",
    "IpvsService/AdoptVirtualServer": f"key {{ {_FOREIGN} }}",
    "IpvsService/AdoptDestination": f"virtual_server {{ {_FOREIGN} }} destination {{ {_RS_KEY} }}",
    "IpvsService/BatchApply": f"""
        operations {{ create_virtual_server {{ virtual_server {{ key {{ {_BATCHED} }} }} }} }} last: true""",
    "IpvsSettingsService/UpdateTimeouts": 'timeouts { tcp { seconds: 77 } } update_mask { paths: "tcp" }',
    "IpvsSettingsService/StartSyncDaemon": 'daemon { role: SYNC_ROLE_MASTER interface: "eth0" }',
    "IpvsSettingsService/StopSyncDaemon": "role: SYNC_ROLE_MASTER",
}
REAL_SERVER = {
    **SHARED,
    "ArpService/SilenceArp": 'operator: "ada"',
    "ArpService/RestoreArp": 'operator: "ada"',
}
HARMLESS = {
    "DriftService/RepairDrift",
    "HealthService/ProbeDestination",
    "IpvsService/ApplyTable",
    "IpvsService/ZeroCounters",
    "TransactionService/CommitTransaction",
    "TransactionService/FinishTransaction",
    "TransactionService/ReadyTransaction",
}
"""What changes nothing as it is asked here: with an empty request."""


def director() -> DirectorHost:
    """A director on which somebody has made a virtual server by hand."""
    ipvs, key = FakeIpvs(), parse_key("tcp/192.168.0.210:80")
    ipvs.add_virtual_server(VirtualServer(key=key))
    rs = DestinationKey(address=parse_unicast("192.168.0.104", "rs"), port=80)
    ipvs.add_destination(key, Destination(key=rs, forwarding=Forwarding.DIRECT_ROUTING, weight=1))
    return DirectorHost(ipvs=ipvs)


def filled(request: Message, text: str) -> Message:
    """Return a request with what a text says."""
    return Parse(text, request)
