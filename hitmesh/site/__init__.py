"""What the owner of a site has of hitmesh: what a page is called, what counts as a visit, script, badge. Pure."""
