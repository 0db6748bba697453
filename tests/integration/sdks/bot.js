// The bot of `regrow.testing.feishu.conversation` on the official Node SDK. NODE_PATH says where the SDK is.
'use strict';
const lark = require('@larksuiteoapi/node-sdk');

const { BASE_URL: domain, APP_ID: appId, APP_SECRET: appSecret } = process.env;
const CARD = JSON.parse(process.env.CARD);
const loggerLevel = lark.LoggerLevel.info;
const client = new lark.Client({ appId, appSecret, domain, loggerLevel });

function card(state) {
  const said = structuredClone(CARD);
  said.body.elements[0].content = state;
  return said;
}

async function reply(message, kind, content) {
  const answer = await client.im.v1.message.reply({
    path: { message_id: message.message_id },
    data: { msg_type: kind, content: JSON.stringify(content), reply_in_thread: Boolean(message.thread_id) },
  });
  return answer.data.message_id;
}

const eventDispatcher = new lark.EventDispatcher({ loggerLevel }).register({
  'im.message.receive_v1': async ({ message }) => {
    const { text } = JSON.parse(message.content);
    if (!text.includes('card')) {
      await reply(message, 'text', { text: `heard: ${text}` });
      return;
    }
    await client.im.v1.messageReaction.create({
      path: { message_id: message.message_id },
      data: { reaction_type: { emoji_type: 'OK' } },
    });
    const shown = await reply(message, 'interactive', card('working'));
    await client.im.v1.message.patch({
      path: { message_id: shown },
      data: { content: JSON.stringify(card('done')) },
    });
  },
  'card.action.trigger': async (data) => {
    if (data.action.value.do !== 'approve') throw new Error('another value');
    return {
      toast: { type: 'success', content: 'approved' },
      card: { type: 'raw', data: card('approved') },
    };
  },
});

new lark.WSClient({ appId, appSecret, domain, loggerLevel }).start({ eventDispatcher });
