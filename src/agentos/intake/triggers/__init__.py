"""Work that starts by the clock, a webhook or an event. In: a moment, a signed call, an event. Out: a TriggerFired."""
