"""The sign and colour of each verdict."""

from __future__ import annotations

from typing import Final

from effcore.verdict import Kind

SIGNS: Final = {
    Kind.WIN: (":material/check_circle:", "green"),
    Kind.TIE: (":material/balance:", "blue"),
    Kind.BETTER_FOR_LESS: (":material/trending_up:", "blue"),
    Kind.LOSS: (":material/cancel:", "red"),
    Kind.OVERTRAINED: (":material/content_cut:", "orange"),
    Kind.INCONCLUSIVE: (":material/help:", "orange"),
    Kind.TOO_FEW: (":material/hourglass_empty:", "gray"),
    Kind.BROKE: (":material/error:", "red"),
}
