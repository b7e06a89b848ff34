"""Monitoring as code: Prometheus' configuration and rules, their tests, and the script that draws the dashboard."""
