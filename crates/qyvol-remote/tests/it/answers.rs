//! Answers
