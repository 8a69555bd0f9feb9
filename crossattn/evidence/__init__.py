"""What attention shows: maps, tested lead-lag claims, faithfulness, leakage."""
