"""Who answers, and in which dialect. No Ray, no model runtime."""
