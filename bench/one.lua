-- Hits on one page.
wrk.method = "POST"
