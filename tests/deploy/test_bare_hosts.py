"""The control: without anything of ours the hosts are what they are meant to be."""

from __future__ import annotations

from tests.deploy.site import PORT, VIP, DeploySite


def test_hosts_are_debian_with_systemd_and_kernels_of_their_own(site: DeploySite) -> None:
    """systemd is the first process, dpkg finds every package whole, and no two hosts share a kernel."""
    boots = {each.out("cat", "/proc/sys/kernel/random/boot_id") for each in site.served}
    assert len(boots) == len(site.served)
    for each in site.served:
        assert each.out("readlink", "/proc/1/exe").endswith("/systemd/systemd")
        assert each.out("hostname") == each.name
        assert each.out("dpkg", "--audit") == ""
        assert len(each.out("dpkg", "--list").splitlines()) > 100


def test_hosts_reach_each_other(site: DeploySite) -> None:
    """Every host answers the client on both of its addresses."""
    for each in site.served:
        for address in (each.host.ipv4, each.host.ipv6):
            site.client.run("ping", "-c", "1", "-W", "5", address)


def test_a_backend_made_by_hand_is_answered(site: DeploySite) -> None:
    """IPVS and direct routing work between the hosts, and everything can be taken back."""
    lb, rs, client = site.director, site.real_servers[0], site.client
    silence = "for i in all eth0; do echo 1 >/proc/sys/net/ipv4/conf/$i/arp_ignore; done"
    loud = silence.replace("echo 1", "echo 0")
    rs.bash(f"{silence}; ip address add {VIP}/32 dev lo")
    lb.bash(f"""
        ipvsadm -A -t {VIP}:{PORT} -s wlc
        ipvsadm -a -t {VIP}:{PORT} -r {rs.host.ipv4} -g
        ip address add {VIP}/32 dev eth0
    """)
    assert site.curl(f"http://{VIP}:{PORT}/") == "rs1"
    lb.bash(f"ip address del {VIP}/32 dev eth0; ipvsadm -C")
    rs.bash(f"ip address del {VIP}/32 dev lo; {loud}")
    client.run("ip", "neigh", "flush", "all")
    assert site.curl(f"http://{VIP}:{PORT}/") == ""
