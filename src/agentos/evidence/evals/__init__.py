"""Versions put to the test on data sets, before anybody relies on them.

In flows a file of cases and the version to examine, or two to compare. Each case is executed by the loop of live runs,
with the models that the version names and without effects; scorers say what the answer was worth. Out flow figures with
their samples and intervals, the cases that are flaky, and the facts ``EvalStarted`` and ``EvalEnded``. Gates read
``service.latest``. What runs in production came to is no business of this room (0013).
"""
