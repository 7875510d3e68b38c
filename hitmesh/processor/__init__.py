"""The processor: owns page partitions, commits their rows and lanes, answers with acks."""
