//! The `lifecycle` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    lifecycle_kit::helper_main();
    lifecycle_controller::main()
}
