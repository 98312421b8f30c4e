"""What changed outside, by whom; and that a stop let nothing through. In: journals and stops. Out: lists and proofs."""
