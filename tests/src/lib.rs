//! Helpers of the black-box suite.
