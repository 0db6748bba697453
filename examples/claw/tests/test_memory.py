from support import BotTest


class MemoryTest(BotTest):
    def test_remembers_and_forgets_in_chinese(self):
        self.assertIn("不知道", self.say("我的航班是什么"))
        self.assertIn("CA1234", self.say("记住 我的航班是 CA1234"))
        self.assertEqual(self.say("我的航班是什么?"), "你的航班是 CA1234")
        self.say("忘记我的航班")
        self.assertIn("不知道", self.say("我的航班是什么"))

    def test_remembers_and_forgets_in_english(self):
        self.say("remember my flight is CA1234")
        self.assertEqual(self.say("What is my Flight?"), "Your Flight is CA1234.")
        self.say("Forget my flight")
        self.assertIn("do not know", self.say("what is my flight"))

    def test_understands_wide_punctuation_and_keeps_it(self):
        wide = "记住\uff0c我的地址\uff1a北京\uff0c朝阳"
        self.assertIn("北京\uff0c朝阳", self.say(wide))
        self.assertEqual(self.say("我的地址是什么\uff1f"), "你的地址是 北京\uff0c朝阳")

    def test_the_latest_counts(self):
        self.say("remember my seat is 3A")
        self.say("remember my seat is 14C")
        self.assertEqual(self.say("what's my seat"), "Your seat is 14C.")

    def test_what_one_person_said_in_one_chat_stays_there(self):
        self.say("remember my flight is CA1234", chat="family", sender="ann")
        self.assertIn("do not know", self.say("what is my flight", chat="family", sender="bob"))
        self.assertIn("do not know", self.say("what is my flight", chat="work", sender="ann"))

    def test_survives_a_restart(self):
        self.say("remember my flight is CA1234")
        self.store.close()
        self.open()
        self.assertIn("CA1234", self.say("what is my flight"))
