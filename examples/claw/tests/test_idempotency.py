from concurrent.futures import ThreadPoolExecutor

from support import BotTest


class IdempotencyTest(BotTest):
    def lines(self):
        return len(self.client.get("/conversations/family").json()["messages"])

    def test_the_same_key_gets_the_same_answer_and_acts_once(self):
        first = self.say("remember my seat is 3A", key="m-1")
        self.say("remember my seat is 14C", key="m-2")
        lines = self.lines()
        self.assertEqual(self.say("remember my seat is 3A", key="m-1"), first)
        self.assertEqual(self.say("what is my seat", key="m-3"), "Your seat is 14C.")
        self.assertEqual(self.lines(), lines + 2)

    def test_a_repeated_answer_says_so(self):
        request = {"json": {"chat": "family", "sender": "ann", "text": "hi", "id": "7"}}
        first, second = self.client.post("/chat", **request), self.client.post("/chat", **request)
        self.assertEqual(first.content, second.content)
        self.assertNotIn("idempotent-replayed", first.headers)
        self.assertEqual(second.headers["idempotent-replayed"], "true")

    def test_an_id_counts_within_its_chat(self):
        for chat in ("family", "work"):
            body = {"chat": chat, "sender": "ann", "text": "hi", "id": "7"}
            self.assertNotIn("idempotent-replayed", self.client.post("/chat", json=body).headers)

    def test_survives_a_restart(self):
        first = self.say("what is my flight", key="m-1")
        self.store.close()
        self.open()
        self.say("remember my flight is CA1234")
        self.assertEqual(self.say("what is my flight", key="m-1"), first)

    def test_many_at_the_same_time_act_once(self):
        with ThreadPoolExecutor(4) as pool:
            said = list(pool.map(lambda _: self.say("hello", key="m-1"), range(12)))
        self.assertEqual(set(said), {"Hello!"})
        self.assertEqual(self.lines(), 2)

    def test_an_unusable_key_is_refused(self):
        body = {"chat": "family", "sender": "ann", "text": "hi"}
        response = self.client.post("/chat", json=body, headers={"Idempotency-Key": "k" * 501})
        self.assertEqual(response.status_code, 400)
