//! Attributes that links can have on this kernel.

use std::time::{Duration, Instant};

use lifecycle_core::plugin::network::LinkRequest;
use lifecycle_core::topology::LinkAttrs;
use lifecycle_testkit::laws::{Skip, Verdict};

use super::fixture::Fixture;

pub(crate) async fn a_rate_slows_down(fixture: &Fixture) -> Verdict {
    let can = fixture.backend.capabilities();
    if !can.rate {
        return Err(Skip::new("tbf", can.missing["rate"].clone()));
    }
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    // Test frames of 60 bytes: 32 kbit/s pass some 67 of them in a second, besides what may go at once.
    let attrs = LinkAttrs { mtu: 1500, rate: Some(32_000), ..LinkAttrs::default() };
    let request = LinkRequest { attrs, ..fixture.nodes.request(1, &a, &b) };
    let identity = fixture.backend.connect(&request).await.unwrap();
    let time = |frames: u32| {
        let begun = Instant::now();
        for _ in 0..frames {
            assert!(fixture.frame_passes(&a, &b, Duration::from_secs(3)));
        }
        begun.elapsed()
    };
    let slow = time(100);
    fixture.backend.set_params(&identity, &LinkAttrs { rate: None, ..attrs }).await.unwrap();
    let fast = time(100);
    assert!(slow > Duration::from_millis(500), "{slow:?} with a rate, {fast:?} without");
    let error = fixture.backend.set_params(&identity, &LinkAttrs { rate: Some(0), ..attrs }).await.unwrap_err();
    assert_eq!(error.kind(), lifecycle_core::ErrorKind::InvalidInput, "{error:?}");
    Ok(())
}

/// Whatever the kernel lacks is in the capabilities, with the reason.
pub(crate) async fn what_the_kernel_lacks_is_said(fixture: &Fixture) -> Verdict {
    use lifecycle_linux::capability::{Feature, Missing};
    let (can, missing) = (fixture.backend.capabilities(), Missing::detect().unwrap());
    assert_eq!(can.missing.contains_key("bridge vlan_filtering"), !missing.has(Feature::BridgeVlanFiltering));
    assert_eq!(can.delay, missing.has(Feature::Netem));
    assert_eq!(can.missing.contains_key("delay"), !missing.has(Feature::Netem));
    assert!(can.switched);
    Ok(())
}
