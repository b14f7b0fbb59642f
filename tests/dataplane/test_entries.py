from tests.dataplane.world import World, group_spec
from sncontroller.core import ofctl
import pytest

@pytest.mark.parametrize("pinning", ["conntrack","learn","reactive"])
@pytest.mark.parametrize("arp", ["primary","switch"])
def test_dump(world, pinning, arp):
    spec = group_spec(pinning=pinning, arp=arp, match=dict(address="10.0.0.10",protocol=["tcp","udp"],ports=["8000-8010", 80]), health=dict(kind="tcp",source="10.0.0.254"))
    world.add_nodes(spec,1,2,3)
    t=world.install(spec, draining={3}); open("/tmp/dp/last.txt","w").write(chr(10).join(l[:300] for l in ofctl.lines(t)))
    want=ofctl.lines(t)
    got=world.dump()
    assert sorted(got)==sorted(want)
    c=world.client()
    print(c.do("open",address="10.0.0.10",port=80,count=20))
