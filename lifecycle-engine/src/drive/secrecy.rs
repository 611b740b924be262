//! Hides the secrets of a node in what its provider tells of it, before anybody logs or records it.

use lifecycle_core::error::Error;
use lifecycle_core::secret::Secrets;

use crate::decide::{Done, Outcome};

/// The same end of an effect with every secret hidden.
pub(super) fn masked(secrets: &Secrets, outcome: Outcome) -> Outcome {
    match outcome {
        // Its causes are told in the text, since each of them may have the secret.
        Err(error) if secrets.are_in(&error.chain()) => {
            let chain = error.chain();
            let told = chain.strip_prefix(error.operation()).unwrap_or(&chain).trim_start_matches([':', ' ']);
            Err(Error::new(error.kind(), error.operation(), secrets.mask(told)))
        }
        Ok(Done::Commands { log, ok }) => {
            Ok(Done::Commands { log: log.iter().map(|line| secrets.mask(line)).collect(), ok })
        }
        Ok(Done::Ready { verdict: Err(why), progress }) => {
            Ok(Done::Ready { verdict: Err(secrets.mask(&why)), progress })
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use lifecycle_core::error::ErrorKind;
    use lifecycle_core::name::NodeName;
    use lifecycle_core::topology::NodeSpec;

    use super::*;

    #[test]
    fn nothing_that_a_provider_tells_has_a_secret() {
        let mut spec = NodeSpec::new(NodeName::new("r1").unwrap(), "linux");
        spec.env.insert("TOKEN".to_owned(), "hunter22".to_owned());
        let secrets = Secrets::of(&spec);
        let error = Error::new(ErrorKind::NotFound, "start node", "the program is not there")
            .about("r1")
            .because(std::io::Error::other("no file login-hunter22"));
        let told = masked(&secrets, Err(error)).unwrap_err();
        assert_eq!(told.chain(), "start node: r1: the program is not there: no file login-***");
        assert_eq!(told.kind(), ErrorKind::NotFound);
        let log = Done::Commands { log: vec!["`env`: exited with 0: TOKEN=hunter22".to_owned()], ok: true };
        let Ok(Done::Commands { log, ok: true }) = masked(&secrets, Ok(log)) else { panic!() };
        assert_eq!(log, ["`env`: exited with 0: TOKEN=***"]);
        let ready = |why: &str| Done::Ready { verdict: Err(why.to_owned()), progress: Some(3) };
        assert_eq!(masked(&secrets, Ok(ready("`check hunter22`: 1"))).unwrap(), ready("`check ***`: 1"));
        assert_eq!(masked(&secrets, Ok(Done::Nothing)).unwrap(), Done::Nothing);
    }
}
