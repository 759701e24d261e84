"""What a chat consists of besides facts: names, greetings, reactions, small talk, farewells.

In a line, `{y}` is the name of the one who is spoken to.
"""

from __future__ import annotations

from typing import Final


def _listed(names: str) -> tuple[str, ...]:
    return tuple(names.split())


NAMES: Final = _listed(
    "Maria Oskar Priya Tomas Ingrid Leon Amara Felix Noor Hugo Saskia Mateo Yuki Dario Elif Rowan "
    "Petra Samir Lucia Ansel Keiko Bruno Freya Omar Clara Viktor Zainab Emil Rosa Callum Anika Jonas "
    "Mei Stefan Talia Rafael Greta Idris Paloma Henrik Soraya Duncan Lena Akira Beatriz Marcus Hana "
    "Gideon Wanda Luca Farah Simon Irina Theo Marta Kofi Elise Pavel Dina Arthur Lotte Ravi Carmen "
    "Nils Esther Hassan Judith Milan Alma Peter Selma Victor Ruth Ivan Nadia George Olga Martin Iris "
    "Patrick Vera Daniel Tess Adam Paula Eric Monica Brian Helen Kevin Laura Steven Diane Aaron"
)

LISTS: Final[dict[str, tuple[str, ...]]] = {
    "friend": _listed(
        "Bea Kurt Jolene Ahmed Suki Wes Margot Tariq Nell Otis Gwen Pablo Ines Walt Dot Ezra"
    ),
    "relative": (
        "sister", "brother", "cousin", "uncle", "aunt", "dad", "mum", "niece", "nephew", "grandpa",
    ),
    "city": (
        "Lisbon", "Ghent", "Tampere", "Kraków", "Porto", "Leeds", "Valencia", "Graz", "Bergen",
        "Halifax", "Trieste", "Toulouse", "Aarhus", "Cork", "Brno", "Savannah", "Duluth", "Tucson",
    ),
    "few": ("two", "three", "four", "five", "six", "seven"),
    "many": ("twelve", "fifteen", "twenty", "twenty-five", "thirty", "forty", "sixty"),
    "years": ("two years", "three years", "five years", "six years", "eight years", "ten years"),
}  # fmt: skip
"""Values that any topic may use."""

GREETINGS: Final = (
    "Hey {y}! How have you been?",
    "Hi {y}, long time no talk! What's new?",
    "Hello {y}! Good to hear from you.",
    "Hey {y}, got a minute?",
    "{y}! I was just thinking about you. How are things?",
    "Morning {y}, how's your week going?",
    "Hi there! How was your week, {y}?",
    "Hey! It's been a while, {y}.",
    "Evening, {y}! Finally some time to write.",
    "Hey {y}, what have you been up to?",
    "Hi {y}! So much to tell you.",
    "Yo {y}, are you around?",
)

GREETED: Final = (
    "Hey {y}! All good here, busy as always.",
    "Hi {y}! Can't complain. And you?",
    "Good to hear from you too, {y}!",
    "Hey! Pretty tired, but happy.",
    "Oh hi {y}! It has been quite a week.",
    "Hey {y}, I'm doing fine, thanks for asking.",
    "Hi! Same old, same old. Tell me everything!",
    "Hello! I was about to message you, {y}.",
)

REACTIONS: Final = (
    "That's great, {y}!",
    "Wow, {y}, that's amazing!",
    "Oh no, {y}, I'm sorry to hear that.",
    "Nice one!",
    "That sounds lovely.",
    "Really? Tell me more!",
    "Ha, that is so you, {y}.",
    "I'm really happy for you, {y}.",
    "Good for you!",
    "No way!",
    "I can totally relate, {y}.",
    "That must have been something.",
    "Thanks for telling me, {y}.",
    "You deserve it.",
    "I'm impressed, {y}!",
    "That makes sense.",
    "Sounds like a lot, {y}.",
    "Oh, I love that!",
    "Congrats, {y}!",
    "Fingers crossed, {y}!",
    "Cool!",
    "I hear you.",
    "You always find something new, {y}.",
    "Glad it worked out.",
)

FOLLOW_UPS: Final = (
    "How did that feel?",
    "What did you like the most about it?",
    "Was it hard?",
    "Who was there with you?",
    "Would you do it again?",
    "What's the plan now?",
    "How did that come about?",
    "Are you going to keep at it?",
    "Did you take any pictures?",
    "And how does everyone at home feel about it?",
)

ANSWERS: Final = (
    "Honestly, better than I expected.",
    "It was a bit much at first, but I got used to it.",
    "Thanks, {y}! That means a lot.",
    "I'd do it again in a heartbeat.",
    "Not sure yet, {y}. We'll see.",
    "Everyone at home was very supportive.",
    "Mostly luck, to be fair.",
    "I wish I had more time for it.",
    "You know me, {y}, I can't sit still.",
    "It took some patience, but it was worth it.",
    "Yes and no. I'll tell you when we meet.",
    "I should have asked you first, {y}!",
)

SMALL_TALK: Final = (
    "It has been raining here for days, I barely leave the house.",
    "Work has been crazy lately.",
    "I slept terribly, so forgive my typos.",
    "My phone battery is dying, but go on.",
    "Did you see how late it gets dark now? I love it.",
    "I just made myself a big cup of tea.",
    "The neighbours are drilling again. Every single day!",
    "Traffic was awful this evening.",
    "I can't believe how fast this year is going.",
    "I still owe you a call, {y}.",
    "We really have to meet in person soon, {y}.",
    "Sorry for the late answer, it's been one of those days.",
    "I've been trying to spend less time on my phone, with little success.",
    "I finally cleaned the kitchen, you'd be proud of me, {y}.",
    "It's so cold that I put on two sweaters.",
    "Everything is blooming over here.",
    "I miss the old days when we met every week, {y}.",
    "Remember how we used to talk all night?",
    "I had the strangest dream about us being late for an exam.",
    "Money flies at the moment, everything is so expensive.",
    "My train was an hour late, and nobody said why.",
    "I bought far too many oranges at the market.",
    "The heating in my living room makes a strange noise.",
    "Can you believe that it's nearly the weekend, {y}?",
    "I walked home tonight, the air smelled of rain.",
    "There was a power cut for ten minutes, it was so quiet.",
    "My inbox has four hundred unread messages.",
    "I had soup for the third day in a row.",
    "Someone parked in front of my door again.",
    "I found your old scarf in my wardrobe, {y}!",
    "The coffee machine at work is broken, so the mood is bad.",
    "I've had this song in my head since breakfast.",
    "The moon is huge tonight, look out of the window!",
    "I should really go to bed earlier.",
    "I watered the plants twice today because I forgot the first time.",
    "My sister says hi, by the way, {y}.",
    "I can't decide what to have for dinner.",
    "It was so hot today that I worked with my feet in a bucket.",
    "I dropped my keys down the stairs, all four floors.",
    "A stranger paid for my coffee this morning, that made my day.",
    "I tried to fold a fitted sheet, and I lost.",
    "The supermarket has moved everything around again.",
    "I spent an hour looking for the glasses that I was wearing.",
    "Sometimes I think we should all work four days.",
    "There's a film crew in our street, I waved at the camera.",
    "I've read the news and regretted it at once.",
    "My umbrella turned inside out, in front of everybody.",
    "The baby next door laughs in its sleep, you can hear it through the wall.",
    "I've been early for once, and nobody was there to see it.",
    "The trees in front of my window have no leaves left.",
    "I waited on the hotline for forty minutes, the music was nice though.",
    "I'm sitting in the kitchen with a blanket, it's that kind of evening.",
    "You'd laugh if you saw my hair today, {y}.",
    "My watch says that I stood for nine hours.",
    "We had cake at the office, three kinds.",
    "I'm counting the days until the holidays.",
    "Have you ever noticed how loud birds are at five in the morning?",
    "There was ice on the inside of the window.",
    "I told my mother about our talk, she sends you a hug, {y}.",
    "I need new shoes, but I hate shopping.",
)

ECHOES: Final = (
    "{v}? Really?",
    "I keep telling everyone about your story: {v}!",
    "{v}, I wouldn't have expected that of you.",
    "How did it go on, with {v}?",
    "And is it still {v}?",
    "When you said {v}, I had to laugh.",
    "I mentioned {v} to my family, they were all ears.",
    "So, {v}, and then what?",
)
OWN_ECHOES: Final = (
    "You remember, {v}.",
    "It's still {v}, if you wonder.",
    "You were the first to hear of it: {v}.",
    "I still can't believe it, {v}.",
    "{v}, that's a story for another day.",
    "People keep asking about it: {v}, and why.",
)
"""`{v}` is what was told of: the words of a fact in turns that do not tell it."""

TAILS: Final = (
    "How about you, {y}?",
    "What about you?",
    "And you, anything new?",
    "Have you ever tried something like that, {y}?",
    "What do you think, {y}?",
    "Anyway, how are things on your side?",
)

LEADS: Final = (
    "By the way, ",
    "Oh, and ",
    "Guess what, ",
    "So, ",
    "Big news: ",
    "I haven't told you yet: ",
    "Well, ",
    "Actually, ",
)

FAREWELLS: Final = (
    "I have to run, talk soon, {y}!",
    "Okay, dinner is calling. Take care, {y}!",
    "Got to go, my bus is here. Bye!",
    "Let's talk again soon, {y}. Good night!",
    "It was so good to catch up, {y}.",
    "Thanks for listening, {y}. Bye for now!",
    "Take care, {y}, and say hi to everyone!",
    "Bye {y}! Keep me posted.",
    "See you, {y}!",
    "You too! Talk to you soon.",
)

PHOTOS: Final = (
    "a cup of coffee on a windowsill",
    "a sunset over the rooftops",
    "a wet street with umbrellas",
    "two people laughing on a bench",
    "a plate of cookies on a wooden table",
    "a cloudy sky above a field",
    "a messy desk with a laptop",
    "a path between tall trees",
    "a hand holding a mug",
    "a group of friends around a table",
)
