"""The scenario that `coordsim init` writes: small, commented, and ready to run.

Checked: tests/test_cli.py runs it.
"""

SCHEMA = "coordsim.schema.json"

TEXT = f"""\
# yaml-language-server: $schema={SCHEMA}
#
# A starter: change it into your own system. Editors with YAML support check it as you type.
#
#   coordsim check THIS_FILE        all mistakes at once, and which queue is the busiest
#   coordsim run THIS_FILE          where the time goes
#   coordsim run THIS_FILE --set runtime=session-state --show-task p99
#
# Every quantity carries its unit: `250 ms`, `1.5k tokens`, `40 kB`, `0.5 / s`, `80 %`.
coordsim: 1                        # version of this format
name: my-system
question: Where does the time of a task go?
seed: 1                            # the same seed gives the same numbers, on one core or many
replications: 5                    # independent runs; the interval comes from how much they differ

# How state and control move between components: ideal, stateless-api, external-orchestrator, session-state or
# agent-native; or a preset with policies of your own: {{preset: session-state, notification: polling}}.
runtime: session-state

workload:
  arrivals: {{poisson: 0.2 / s}}     # or deterministic, bursty, rates, ramp, closed, trace ...
  tasks: 400                       # or `horizon: 1 h`
  request: 300 tokens              # what a task brings along

agents:
  worker:
    model: llm
    node: app
    prompt: 800 tokens             # sent before the task's own context
    output: {{lognormal: {{median: 150 tokens, p95: 500 tokens}}}}

models:
  llm:
    kind: llm                      # one that you serve; `kind: api` is somebody else's
    node: gpu
    replicas: 1
    concurrency: 8                 # calls that a replica works on at once
    overhead: 8 ms
    prefill: 0.06 ms / token
    decode: 8 ms / token

tools:
  search:
    latency: {{lognormal: {{median: 350 ms, p95: 1.4 s}}}}
    concurrency: 10                # more calls than this wait
    invoke: 3 ms                   # dispatch and parsing, beside the tool's own work
    request: 1 kB
    response: 12 kB

network:
  nodes: {{app: {{}}, gpu: {{}}}}
  links: [{{between: [app, gpu], latency: 0.5 ms, bandwidth: 10 Gbit/s}}]

orchestrator: {{node: app}}

workflow:
  start: work
  steps:
    work:
      agent: worker
      tools: {{search: 0.8, none: 0.2}}   # after each turn: search with probability 0.8
      repeat: {{geometric: {{mean: 4}}}}    # turns of the agent's loop
      at_most: 20
      next: done

slo: {{p95: 60 s, success: 99 %}}     # judged by `coordsim run THIS_FILE --check-slo`
"""
