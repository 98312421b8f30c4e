"""Others' interfaces over our models and agents. In: what an OpenAI or Anthropic client sends. Out: what it expects.

    bytes → ``chat`` or ``messages`` (one wire form each, pure) → Wanted → ``asking`` a model, or ``agents`` for a run
          → Said → the same wire form → bytes, whole or as a stream of events

A model is asked by the router, under the caller's organization's stops, prices and caps, as a run would ask it. The
tools of a request are the client's: it is told which to call, and nothing is executed here.
"""
