import unittest

from claw import wording


class WordingTest(unittest.TestCase):
    def test_understands_both_languages(self):
        for text, cron, zone, what in (
            ("提醒我 每天 07:00 喝水", "0 7 * * *", "Asia/Shanghai", "喝水"),
            ("提醒我每天早上7点喝水", "0 7 * * *", "Asia/Shanghai", "喝水"),
            ("提醒我 每天 下午3点半 in Europe/Berlin 喝茶", "30 15 * * *", "Europe/Berlin", "喝茶"),
            ("提醒我 工作日 18:05 时区 Asia/Tokyo 下班", "5 18 * * 1-5", "Asia/Tokyo", "下班"),
            ("提醒我 每周日 晚上8点10分 打电话", "10 20 * * 0", "Asia/Shanghai", "打电话"),
            ('提醒我 cron "*/5 * * * *" 站起来', "*/5 * * * *", "Asia/Shanghai", "站起来"),
            ("提醒我 每小时 站起来", "0 * * * *", "Asia/Shanghai", "站起来"),
            ("remind me every day at 07:00 to drink water", "0 7 * * *", "Asia/Shanghai", "drink water"),
            ("Remind me daily at 7 pm in Europe/Berlin to walk", "0 19 * * *", "Europe/Berlin", "walk"),
            ("remind me every Friday at 12am to sleep in UTC", "0 0 * * 5", "UTC", "sleep"),
            ("remind me every minute to breathe", "* * * * *", "Asia/Shanghai", "breathe"),
        ):
            with self.subTest(text):
                self.assertEqual(wording.wish(text), wording.Wish(cron, zone, what))

    def test_says_when_it_did_not_understand(self):
        for text in ("提醒我 改天 喝水", "remind me to drink", "remind me every day at 7"):
            self.assertTrue(wording.is_wish(text))
            self.assertIsNone(wording.wish(text))
        self.assertFalse(wording.is_wish("我的提醒"))
