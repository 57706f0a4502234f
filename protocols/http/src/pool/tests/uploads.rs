//! Requests whose service answers before their end.

use super::*;
use futures_util::stream;

#[test]
fn an_upload_ends_with_its_response() {
    with(true, 1, async |shop| {
        let pool = pool(&shop, plan(true));
        let mut conn = reach(&pool).await;
        let endless = Body::made(http_body_util::StreamBody::new(stream::pending()));
        let body = RequestBody::new(&ReplayBody::new(endless, 0, None, None), None);
        let request = Request::post("http://shop/early").body(body).unwrap();
        let answer = conn.send(request).await.expect("an answer");
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
        assert_eq!(shop.service.cut_uploads.get(), 0);
        pool.put(conn);
        becomes(|| shop.service.cut_uploads.get() == 1).await;
        trip(&pool).await;
        assert_eq!(shop.dials.get(), 1);
    });
}
