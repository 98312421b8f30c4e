"""AgentOS runs AI agents that somebody has to answer for.

Data flows downstream and imports point upstream:
kernel < intake < control < runtime < evidence < operations < adapters < apps.
"""

__version__ = "0.1.0"
