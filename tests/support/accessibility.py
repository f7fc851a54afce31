"""What axe-core finds on a page."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def serious_findings(page: Page) -> list[str]:
    """Each serious or critical violation with the element it is on; WCAG 2.2 A and AA and axe's best practices."""
    response = Axe().run(page).response
    return [
        f"{found['id']} ({found['impact']}): {node['html'][:200]} {node.get('failureSummary', '')}"
        for found in response["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]
