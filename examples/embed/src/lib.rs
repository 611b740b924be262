//! A lab in forty lines: Lifecycle embedded in a program.
