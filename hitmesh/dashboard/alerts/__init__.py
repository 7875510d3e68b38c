"""Alerts: what isn't well for a while is told to people, once, by one of a datacenter's dashboards.

`rules` judge what the dashboard knows, `machine` decides what is told, `memory` is what the dashboards of a datacenter
share about that in the settings store (`hitmesh/settings/agreement.py`). `alerting` runs it; `webhook`, `mail` and
`dead_man` send.
docs/operations/alerting.md has it in words.
"""
