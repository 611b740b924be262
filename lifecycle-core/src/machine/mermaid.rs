use std::fmt::Write;

use super::Lifecycle;

/// Draws a machine's table as a Mermaid state diagram.
pub fn mermaid<S: Lifecycle>() -> String {
    let mut text = format!("stateDiagram-v2\n    [*] --> {}\n", S::INITIAL);
    for &from in S::VARIANTS {
        for to in from.next() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "    {from} --> {to}");
        }
        if from.is_final() {
            let _ = writeln!(text, "    {from} --> [*]");
        }
    }
    text
}
