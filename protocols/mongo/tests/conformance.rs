//! What real drivers said to a server is read as it should be, however it is cut or broken.

use mongo::{Listener, Mongo};
use operation::testing::{conforms, load};
use std::{path::Path, sync::Arc};

#[test]
fn mongo_conforms() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/mongo");
    let fixtures = load(directory).unwrap();
    conforms::<Mongo>(|| Arc::new(Listener::default()), &fixtures);
}
