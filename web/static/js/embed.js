// The one script for a page of your own: <omakase-chat run="run_…"></omakase-chat>
import "./components/omakase-chat.js";

export { OmakaseChat } from "./components/omakase-chat.js";
