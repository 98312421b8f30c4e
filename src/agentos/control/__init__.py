"""May it happen, how, and at what price: agents and versions, deployments, policy, approvals."""
