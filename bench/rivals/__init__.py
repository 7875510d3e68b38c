"""Systems that people would count hits with instead of hitmesh, and the bench that takes turns with them."""
