import time
from typing import Any
from .scene import *
from .test_perceive_streams import stream, world
from .test_perceive import tasks
def test_perf():
    for name, st, al in (("direct", {}, {"window": {"length": "1 s"}}), ("jitter", {"jitter": {"exponential": {"mean": "5 ms"}}}, {"window": {"length": "1 s"}}), ("barrier", {}, {"barrier": {}})):
        m = {n: stream(stream={"rate": "30 / s", "length": "10 s", **st}) for n in "abcde"}
        spec = scene(world(m, {"latency": "20 ms"}, align=al), {"workload": {"arrivals": {"deterministic": "0.01 / s"}, "tasks": 20}})
        from coordsim.models.simulate import simulate
        t=time.perf_counter(); simulate(spec, spans="none"); d=time.perf_counter()-t
        print(name, d/20*1e3, "ms a task", d/20/1500*1e6, "us a piece")
        import cProfile, pstats
        if name!="barrier":
            p=cProfile.Profile(); p.enable(); simulate(spec, spans="none"); p.disable(); pstats.Stats(p).sort_stats("tottime").print_stats(14)
